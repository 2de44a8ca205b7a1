//! Calls about sockets.

use super::*;

groups! {
    // Using a socket that is there.
    ALL, Rule::Allow => {
        recvfrom 45 207, recvmsg 47 212, recvmmsg 299 243, shutdown 48 210, getsockname 51 204, getpeername 52 205,
        getsockopt 55 209,
    }
    // A flag that connects while it sends goes around Landlock's rule about ports; out-of-band data on unix sockets
    // has been a way into the kernel.
    ALL, Rule::Check(checks::flags_of_sendto) => {
        sendto 44 206,
    }
    ALL, Rule::Check(checks::flags_of_sendmsg) => {
        sendmsg 46 211,
    }
    ALL, Rule::Check(checks::flags_of_sendto) => {
        sendmmsg 307 269,
    }
    // No options that connect while they send, load code or change what a socket is.
    ALL, Rule::Check(checks::setsockopt) => {
        setsockopt 54 208,
    }
    // A pair leads nowhere but to itself; run-times wake themselves by one.
    ALL, Rule::Check(checks::socketpair) => {
        socketpair 53 199,
    }
    // Unix, TCP and UDP.
    NETWORKED, Rule::Check(checks::socket) => {
        socket 41 198,
    }
    NETWORKED, Rule::Allow => {
        bind 49 200, listen 50 201, accept 43 202, accept4 288 242, connect 42 203,
    }
}
