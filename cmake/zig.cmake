# Toolchain: zig from the package index, for the target triple CLARY_ZIG_TARGET (say x86_64-linux-gnu.2.28).
#
# The wrappers in cmake/zig run `$CLARY_PYTHON -m ziglang`; without the variable, the Python of .venv.

list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES CLARY_ZIG_TARGET)
if(NOT CLARY_ZIG_TARGET)
  set(CLARY_ZIG_TARGET "${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu.2.28")
endif()
set(CLARY_ZIG_TARGET "${CLARY_ZIG_TARGET}" CACHE STRING "zig target triple")

string(REGEX MATCH "^[^-]+" CMAKE_SYSTEM_PROCESSOR "${CLARY_ZIG_TARGET}")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY) # the first link of a kind builds libc++, about a minute

set(CMAKE_C_COMPILER "${CMAKE_CURRENT_LIST_DIR}/zig/cc")
set(CMAKE_CXX_COMPILER "${CMAKE_CURRENT_LIST_DIR}/zig/c++")
set(CMAKE_ASM_COMPILER "${CMAKE_C_COMPILER}")
foreach(language C CXX ASM)
  set(CMAKE_${language}_COMPILER_TARGET "${CLARY_ZIG_TARGET}")
  set(CMAKE_${language}_COMPILER_AR "${CMAKE_CURRENT_LIST_DIR}/zig/ar" CACHE FILEPATH "")
  set(CMAKE_${language}_COMPILER_RANLIB "${CMAKE_CURRENT_LIST_DIR}/zig/ranlib" CACHE FILEPATH "")
endforeach()
set(CMAKE_AR "${CMAKE_CURRENT_LIST_DIR}/zig/ar" CACHE FILEPATH "")
set(CMAKE_RANLIB "${CMAKE_CURRENT_LIST_DIR}/zig/ranlib" CACHE FILEPATH "")

if(CLARY_ZIG_TARGET MATCHES "musl") # test executables that need nothing of the target system
  set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")
endif()
if(NOT CMAKE_SYSTEM_PROCESSOR STREQUAL CMAKE_HOST_SYSTEM_PROCESSOR)
  set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-${CMAKE_SYSTEM_PROCESSOR}-static;-cpu;max")
endif()
