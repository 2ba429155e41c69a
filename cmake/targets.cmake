# The CPU targets: one object library each, compiled from engine/cpu/target_<name>.cc with the row's flags.
#
# A new target is one row here and that one file. Rows go from the lowest to the highest; the registry sees the compiled ones
# in this order as CLARY_CPU_TARGET(name) lines of the generated cpu_targets.inc.

set(avx2 -mavx2 -mfma -mf16c)
set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mfma -mf16c)
set(avx512vnni ${avx512} -mavx512vnni)
set(avx512vbmi ${avx512vnni} -mavx512vbmi)
set(avx512bf16 ${avx512vbmi} -mavx512bf16)

function(clary_cpu_target_table)
  #                name        arch     flags
  clary_cpu_target(scalar      any)
  if(CLARY_TEST_TARGETS) # the logic of others on CPUs that lack their instructions; lowest, so that they run when forced only
    clary_cpu_target(avxvnni_evex x86_64 ${avx2} -mavx512f -mavx512vl -mavx512vnni)
    clary_cpu_target(amx_emulated x86_64 ${avx512vbmi})
  endif()
  clary_cpu_target(avx2        x86_64   ${avx2})
  clary_cpu_target(avxvnni     x86_64   ${avx2} -mavxvnni)
  clary_cpu_target(avx512      x86_64   ${avx512})
  clary_cpu_target(avx512vnni  x86_64   ${avx512vnni})
  clary_cpu_target(avx512vbmi  x86_64   ${avx512vbmi})
  clary_cpu_target(avx512bf16  x86_64   ${avx512bf16})
  clary_cpu_target(amx         x86_64   ${avx512vbmi} -mamx-tile -mamx-int8)
  clary_cpu_target(neondot     aarch64  -march=armv8.2-a+dotprod+fp16)
  clary_cpu_target(neoni8mm    aarch64  -march=armv8.2-a+dotprod+fp16+i8mm+bf16)
endfunction()

include(CheckCXXCompilerFlag)

# Makes the objects of `library` part of clary_objects, and so of libclary.so and of every test.
function(clary_add_objects library)
  target_sources(clary_objects INTERFACE $<TARGET_OBJECTS:${library}>)
endfunction()

function(clary_cpu_target name arch)
  string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" here)
  string(REGEX REPLACE "^(amd64|x64)$" "x86_64" here "${here}")
  string(REGEX REPLACE "^arm64$" "aarch64" here "${here}")
  if(NOT arch MATCHES "^(any|${here})$")
    return()
  endif()

  set(flags ${ARGN})
  if(CLARY_ZIG_TARGET) # zig's -mcpu names the architecture level as a feature
    string(REPLACE "-march=armv8.2-a" "-mcpu=generic+v8_2a" flags "${flags}")
    string(REPLACE "+fp16" "+fullfp16" flags "${flags}")
  endif()

  set(source "engine/cpu/target_${name}.cc")
  if(EXISTS "${PROJECT_SOURCE_DIR}/tests/targets/target_${name}.cc")
    set(source "tests/targets/target_${name}.cc")
  endif()
  set(why "")
  if(NOT EXISTS "${PROJECT_SOURCE_DIR}/${source}")
    set(why "${source} does not exist")
  elseif(flags)
    list(JOIN flags " " joined)
    check_cxx_compiler_flag("${joined}" CLARY_COMPILES_${name})
    if(NOT CLARY_COMPILES_${name})
      set(why "the compiler does not take ${joined}")
    endif()
  endif()
  if(why)
    if(CLARY_ALL_TARGETS)
      message(FATAL_ERROR "CPU target ${name}: ${why}")
    endif()
    message(STATUS "CPU target ${name}: left out, ${why}")
    return()
  endif()

  add_library(clary_cpu_${name} OBJECT "${source}")
  target_link_libraries(clary_cpu_${name} PUBLIC clary_options)
  # Vector types cross no ABI here: everything but the target's record is internal. GCC's own AVX-512 header sets the other
  # two off (GCC bug 105593).
  target_compile_options(clary_cpu_${name} PRIVATE ${flags} -Wno-psabi
    $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized>)
  clary_add_objects(clary_cpu_${name})
  set_property(GLOBAL APPEND_STRING PROPERTY CLARY_CPU_TARGETS "CLARY_CPU_TARGET(${name})\n")
endfunction()

function(clary_add_cpu_targets)
  clary_cpu_target_table()
  get_property(rows GLOBAL PROPERTY CLARY_CPU_TARGETS)
  file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/generated/cpu_targets.inc" CONTENT "${rows}")
endfunction()
