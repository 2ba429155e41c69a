"""clary as an attention of other packages' own choosing. clary.enable("transformers", "diffusers") puts it on their lists."""

# The names it goes by there, and the accuracy of each; None: that of clary.enable(accuracy=), else "standard".
NAMES = {"clary": None, "clary_exact": "exact", "clary_high": "high", "clary_fast": "fast"}
