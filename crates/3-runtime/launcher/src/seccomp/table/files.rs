//! Calls about files.

use super::*;

groups! {
    // Reading and writing what is open, opening, looking around.
    ALL, Rule::Allow => {
        read 0 63, write 1 64, close 3 57, close_range 436 436, open 2 -, openat 257 56, openat2 437 437, stat 4 -,
        fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291, access 21 -, faccessat 269 48, faccessat2 439 439,
        lseek 8 62, pread64 17 67, pwrite64 18 68, readv 19 65, writev 20 66, preadv 295 69, pwritev 296 70,
        preadv2 327 286, pwritev2 328 287, sendfile 40 71, splice 275 76, tee 276 77, copy_file_range 326 285,
        dup 32 23, dup2 33 -, dup3 292 24, fcntl 72 25, flock 73 32, fsync 74 82, fdatasync 75 83,
        sync_file_range 277 84, getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50,
        readlink 89 -, readlinkat 267 78, fadvise64 221 223, readahead 187 213, statfs 137 43, fstatfs 138 44,
        umask 95 166, ftruncate 77 46, fallocate 285 47, getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10,
        listxattr 194 11, llistxattr 195 12, flistxattr 196 13,
    }
    // Changing what there is. `sync` is missing: it writes out the whole machine's data, and returns nothing that
    // could be missed.
    WRITERS, Rule::Allow => {
        creat 85 -, truncate 76 45, rename 82 -, renameat 264 38, renameat2 316 276, mkdir 83 -, mkdirat 258 34,
        rmdir 84 -, link 86 -, linkat 265 37, unlink 87 -, unlinkat 263 35, symlink 88 -, symlinkat 266 36,
        chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -, fchown 93 55, lchown 94 -,
        fchownat 260 54, utime 132 -, utimes 235 -, utimensat 280 88, futimesat 261 -, syncfs 306 267,
        setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15,
        fremovexattr 199 16,
    }
    // No devices: the kernel refuses them too, but those of an overlay.
    WRITERS, Rule::Check(checks::node_of_mknod) => {
        mknod 133 -,
    }
    WRITERS, Rule::Check(checks::node_of_mknodat) => {
        mknodat 259 33,
    }
    // Requests that push input into a terminal, change its line discipline or a file's project.
    ALL, Rule::Check(checks::ioctl) => {
        ioctl 16 29,
    }
    // Newer spellings and views that leak mounts: as if the kernel were older.
    ALL, Rule::Absent => {
        statmount 457 457, listmount 458 458, setxattrat 463 463, getxattrat 464 464, listxattrat 465 465,
        removexattrat 466 466, file_getattr 468 468, file_setattr 469 469,
    }
}
