//! Calls that wait, tell the time and send signals.

use super::*;

groups! {
    // Waiting for descriptors, clocks and timers.
    ALL, Rule::Allow => {
        poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20,
        epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441, eventfd 284 -,
        eventfd2 290 19, signalfd 282 -, signalfd4 289 74, timerfd_create 283 85, timerfd_settime 286 86,
        timerfd_gettime 287 87, pipe 22 -, pipe2 293 59, nanosleep 35 101, clock_nanosleep 230 115,
        clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169, time 201 -, times 100 153, alarm 37 -,
        setitimer 38 103, getitimer 36 102, timer_create 222 107, timer_settime 223 110, timer_gettime 224 108,
        timer_getoverrun 225 109, timer_delete 226 111,
    }
    // Watching files.
    WRITERS, Rule::Allow => {
        inotify_init 253 -, inotify_init1 294 26, inotify_add_watch 254 27, inotify_rm_watch 255 28,
    }
    // Signals. Whom they reach is a matter of the process namespace and of Landlock.
    ALL, Rule::Allow => {
        rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136,
        rt_sigtimedwait 128 137, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, rt_sigsuspend 130 133,
        sigaltstack 131 132, kill 62 129, tgkill 234 131, tkill 200 130, pause 34 -, restart_syscall 219 128,
        pidfd_open 434 434, pidfd_send_signal 424 424,
    }
}
