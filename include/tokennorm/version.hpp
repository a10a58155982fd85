// SPDX-License-Identifier: MIT
/// The version of tokennorm. This is the only place where it is written: CMake reads it from here.
#pragma once

/// The version, as numbers.
#define TOKENNORM_VERSION_MAJOR 0
#define TOKENNORM_VERSION_MINOR 2
#define TOKENNORM_VERSION_PATCH 0
