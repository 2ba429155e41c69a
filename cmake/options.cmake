# How everything is compiled (clary_options) and how the shared library is linked (clary_link_options).

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_SCAN_FOR_MODULES OFF)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# zig caches objects itself, and ccache would not notice a new zig behind the wrapper script.
find_program(CLARY_CCACHE ccache)
if(CLARY_CCACHE AND NOT CLARY_ZIG_TARGET)
  set(CMAKE_C_COMPILER_LAUNCHER "${CLARY_CCACHE}")
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CLARY_CCACHE}")
endif()

add_library(clary_options INTERFACE)
target_include_directories(clary_options INTERFACE
  "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/include" "${PROJECT_BINARY_DIR}/generated")
target_compile_definitions(clary_options INTERFACE CLARY_BUILDING)
target_compile_options(clary_options INTERFACE
  -fvisibility=hidden $<$<COMPILE_LANGUAGE:CXX>:-fvisibility-inlines-hidden>
  -ffunction-sections -fdata-sections
  -ffp-contract=off -fno-math-errno
  -Wall -Wextra $<$<BOOL:${CLARY_WERROR}>:-Werror>)

if(CLARY_SANITIZE)
  add_compile_options(-fsanitize=${CLARY_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${CLARY_SANITIZE})
endif()

add_library(clary_link_options INTERFACE)
target_link_options(clary_link_options INTERFACE
  "-Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/clary.map"
  -Wl,-z,now,-z,relro,-z,noexecstack,-z,nodelete -Wl,--gc-sections -Wl,--as-needed
  $<$<BOOL:${CLARY_STRIP}>:-s>)
# zig's libc++ is static already.
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_link_options(clary_link_options INTERFACE -static-libstdc++ -static-libgcc)
endif()
