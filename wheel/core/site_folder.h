// A folder of wheels made into a site on disk.
#pragma once
#include <map>

#include "wheel/core/site.h"

namespace clary::tool {

// Every wheel of the folder that is not in `known`, by file name, read and proven: names, RECORD, archive. The first that is
// not fit is the error.
Result<std::vector<SiteWheel>> read_site_wheels(Ctx& ctx, const std::string& folder,
                                                const std::map<std::string, SiteWheel>& known = {});
// Why a wheel must not be served or installed, whatever the policy: what W1, W2 and W3 find, the last of them
// first: a hostile archive is more than an unlisted file. Empty: nothing.
std::string refusal(const FileFacts& facts);

// The pages of a site whose wheels already lie in `folder`, which is `site`/wheels. A wheel that the pages list with its size and
// time is not read again. REQUIRES: the caller holds the site's lock.
Result<Done> write_site(Ctx& ctx, const std::string& folder, const std::string& site);
Result<Done> write_pages(Ctx& ctx, const std::vector<SitePage>& pages, const std::string& site);

}  // namespace clary::tool
