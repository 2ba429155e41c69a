# clary_test(name SOURCES a_test.cc ... [LABELS fuzz pool ...] [ENV NAME=value ...])
#
# One GoogleTest executable over the library's own objects (so tests reach what libclary.so hides) and the scalar oracle.
# Every TEST becomes one ctest entry `name.Suite.Case`. Targets: clary_tests builds all, clary_tests_<label> those with a label.
# ctest knows a test of several labels as `cuda-gpu`.

include(GoogleTest)
if(CMAKE_CROSSCOMPILING AND NOT CMAKE_SYSTEM_PROCESSOR STREQUAL CMAKE_HOST_SYSTEM_PROCESSOR)
  set(gtest_source /usr/src/googletest)
  if(NOT EXISTS "${gtest_source}")
    message(FATAL_ERROR "tests for another architecture compile GoogleTest from ${gtest_source}: apt-get install googletest")
  endif()
  set(INSTALL_GTEST OFF)
  set(BUILD_GMOCK OFF)
  add_subdirectory("${gtest_source}" "${PROJECT_BINARY_DIR}/googletest" EXCLUDE_FROM_ALL SYSTEM)
  target_compile_options(gtest PRIVATE -w)
else()
  find_package(GTest REQUIRED)
endif()

add_custom_target(clary_tests)

function(clary_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LABELS;ENV")
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE clary_objects clary_reference GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE CLARY_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  add_dependencies(clary_tests ${name})
  foreach(label IN LISTS arg_LABELS)
    if(NOT TARGET clary_tests_${label})
      add_custom_target(clary_tests_${label})
    endif()
    add_dependencies(clary_tests_${label} ${name})
  endforeach()
  set(properties TIMEOUT 600)
  if(arg_LABELS) # as one: a list does not survive gtest_discover_tests
    list(JOIN arg_LABELS "-" label)
    list(APPEND properties LABELS "${label}")
  endif()
  if(arg_ENV)
    list(APPEND properties ENVIRONMENT "${arg_ENV}")
  endif()
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES ${properties})
endfunction()
