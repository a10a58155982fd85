// SPDX-License-Identifier: MIT
// A user's unit in which other headers come first and have made macros of their names: no name of
// the library's may be among them. It is compiled and not run, as -std=gnu++20, in which
// <complex.h> is C's.

// The macros are to meet the library, not what it includes.
#include <Eigen/Core>
#if __has_include(<unsupported/Eigen/Tensor>)  // Eigen 5
#include <Eigen/ThreadPool>
#include <unsupported/Eigen/Tensor>
#else
#include <unsupported/Eigen/CXX11/Tensor>
#include <unsupported/Eigen/CXX11/ThreadPool>
#endif
#if __has_include(<nlohmann/json.hpp>)
#include <nlohmann/json.hpp>
#endif
#include <aio.h>
#include <arpa/inet.h>
#include <complex.h>
#include <cpio.h>
#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <endian.h>
#include <fcntl.h>
#include <fenv.h>
#include <float.h>
#include <fmtmsg.h>
#include <fnmatch.h>
#include <ftw.h>
#include <glob.h>
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <regex.h>
#include <sched.h>
#include <search.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <syslog.h>
#include <tar.h>
#include <termios.h>
#include <tgmath.h>
#include <time.h>
#include <unistd.h>
#include <utmpx.h>
#include <wordexp.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cmath>
#include <concepts>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <variant>
#include <vector>
#if __has_include(<sys/sysmacros.h>)
#include <sys/sysmacros.h>
#endif
#if __has_include(<linux/fs.h>)
#include <linux/fs.h>
#include <linux/input.h>
#include <linux/keyboard.h>
#include <linux/perf_event.h>
#endif
#if __has_include(<X11/Xutil.h>)
#include <X11/Xlib.h>
#include <X11/Xutil.h>
#endif
#if __has_include(<curses.h>)
#include <curses.h>
#endif

// Where those headers are not, what they and others are known for: X11, Windows, Qt, Objective-C,
// Arduino, newlib's <ctype.h>, glog.
#ifndef None
#define None 0L
#define Always 2
#define Bool int
#define Status int
#define Success 0
#define True 1
#define False 0
#define Above 0
#define Below 1
#define Complex 0
#define Convex 2
#define Unsorted 0
#endif
#define near
#define far
#define small char
#define hyper __int64
#define interface struct
#define IN
#define OUT
#define OPTIONAL
#define ERROR 0
#define DELETE 1
#define STRICT 1
#define slots
#define signals public
#define emit
#define foreach for
#define YES 1
#define NO 0
#define nil 0
#define F(text) text
#define PI 3.14
#define INPUT 0
#define OUTPUT 1
#define DEFAULT 1
#define EXTERNAL 0
#define HIGH 1
#define LOW 0
#define _U 01
#define _L 02
#define _N 04
#define _S 010
#define _P 020
#define _C 040
#define _X 0100
#define _B 0200
#define CHECK(condition) (condition)
#define LOG(level) (level)

#include "../warnings/components.cpp"
#include "../warnings/everything.cpp"
