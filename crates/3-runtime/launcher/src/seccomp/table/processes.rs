//! Calls about processes and their memory.

use super::*;

groups! {
    // Memory. What moves pages between nodes or into other processes is missing.
    ALL, Rule::Allow => {
        mprotect 10 226, pkey_mprotect 329 288, pkey_alloc 330 289, pkey_free 331 290, munmap 11 215, brk 12 214,
        mremap 25 216, msync 26 227, mincore 27 232, madvise 28 233, mlock 149 228, mlock2 325 284, munlock 150 229,
        mlockall 151 230, munlockall 152 231, membarrier 324 283, get_mempolicy 239 236, map_shadow_stack 453 453,
        mseal 462 462,
    }
    // Huge pages come from one pool of the machine, which no limit of a sandbox covers.
    ALL, Rule::Check(checks::mmap) => {
        mmap 9 222,
    }
    ALL, Rule::Check(checks::memfd_create) => {
        memfd_create 319 279,
    }
    // New programs and processes. `strict` and `proxy` close them once their program has begun.
    ALL, Rule::Allow => {
        execve 59 221, execveat 322 281, fork 57 -, vfork 58 -,
    }
    // Namespaces give new rights over the kernel's surface. `clone3` hides its flags in memory, where a filter cannot
    // look; told that it does not exist, C libraries use `clone`.
    ALL, Rule::Check(checks::clone) => {
        clone 56 220,
    }
    ALL, Rule::Absent => {
        clone3 435 435,
    }
    // Itself and its children. Not on which processors they run: the launcher has divided them.
    ALL, Rule::Allow => {
        exit 60 93, exit_group 231 94, wait4 61 260, waitid 247 95, getpid 39 172, getppid 110 173, gettid 186 178,
        getpgid 121 155, getpgrp 111 -, setpgid 109 154, getsid 124 156, setsid 112 157, getuid 102 174,
        geteuid 107 175, getgid 104 176, getegid 108 177, getresuid 118 148, getresgid 120 150, getgroups 115 158,
        set_tid_address 218 96, set_robust_list 273 99, get_robust_list 274 100, futex 202 98, futex_waitv 449 449,
        futex_wake 454 454, futex_wait 455 455, futex_requeue 456 456, rseq 334 293, arch_prctl 158 -,
        getcpu 309 168, uname 63 160, sysinfo 99 179, getrandom 318 278, getrusage 98 165, getrlimit 97 163,
        setrlimit 160 164, prlimit64 302 261, getpriority 140 141, setpriority 141 140, ioprio_get 252 31,
        ioprio_set 251 30, sched_yield 24 124, sched_getaffinity 204 123,
        sched_getparam 143 121, sched_setparam 142 118, sched_getscheduler 145 120, sched_getattr 315 275,
        sched_rr_get_interval 148 127, sched_get_priority_max 146 125, sched_get_priority_min 147 126,
    }
    // Giving rights up; the kernel refuses every way to more of them. Filters and Landlock rules only ever add to
    // those that stand.
    ALL, Rule::Allow => {
        setuid 105 146, setgid 106 144, setreuid 113 145, setregid 114 143, setresuid 117 147, setresgid 119 149,
        setfsuid 122 151, setfsgid 123 152, setgroups 116 159, capget 125 90, capset 126 91, seccomp 317 277,
        landlock_create_ruleset 444 444, landlock_add_rule 445 445, landlock_restrict_self 446 446,
    }
    // Real-time policies starve the machine.
    ALL, Rule::Check(checks::sched_setscheduler) => {
        sched_setscheduler 144 119,
    }
    // Options that every run-time uses; not those that rewrite what the kernel says about the process.
    ALL, Rule::Check(checks::prctl) => {
        prctl 157 167,
    }
    // Asked for, or back to the ordinary: never without address randomisation, never readable memory that is
    // executable too.
    ALL, Rule::Check(checks::personality) => {
        personality 135 92,
    }
    // Semaphores and POSIX queues, which limits cover. System V memory and queues are missing: no limit of a process
    // covers them.
    PROGRAMS, Rule::Allow => {
        semget 64 190, semop 65 193, semctl 66 191, semtimedop 220 192, mq_open 240 180, mq_unlink 241 181,
        mq_timedsend 242 182, mq_timedreceive 243 183, mq_notify 244 184, mq_getsetattr 245 185,
    }
    // Looking into own processes: debuggers and tracers.
    DEBUGGERS, Rule::Allow => {
        ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272,
    }
}
