# SPDX-License-Identifier: MIT
# The library as a Conan 2 package:  conan create cmake/packaging
import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeToolchain
from conan.tools.files import copy, load


class TokennormRecipe(ConanFile):
    name = "tokennorm"
    description = "Normalization layers and transformer block wrappers on Eigen"
    license = "MIT"
    topics = ("transformer", "layernorm", "rmsnorm", "eigen", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"safetensors": [True, False]}
    default_options = {"safetensors": False}
    generators = ("CMakeDeps",)
    no_copy_source = True

    def _root(self):
        return os.path.join(self.recipe_folder, "..", "..")

    def set_version(self):
        header = os.path.join(self._root(), "include", "tokennorm", "version.hpp")
        numbers = re.findall(r"#define TOKENNORM_VERSION_[A-Z]+ ([0-9]+)", load(self, header))
        self.version = ".".join(numbers)

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*"):
            copy(self, pattern, self._root(), self.export_sources_folder)

    def requirements(self):
        self.requires("eigen/[>=3.4 <6]", transitive_headers=True)
        if self.options.safetensors:
            self.requires("nlohmann_json/[>=3.8]", transitive_headers=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def package_id(self):
        self.info.settings.clear()

    def generate(self):
        toolchain = CMakeToolchain(self)
        for part in ("TESTS", "EXAMPLES", "BENCHMARKS"):
            toolchain.cache_variables["TOKENNORM_BUILD_" + part] = False
        toolchain.generate()

    def package(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_info(self):
        # The targets are those of the package's own CMake files, the compiled kernels among them.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [os.path.join("share", "cmake", "tokennorm")]
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
