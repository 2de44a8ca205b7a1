#!/usr/bin/env bash
# The launcher on aarch64: compiled and linked with all its tests and the prober of escapes, and its filter of system calls tried
# on a kernel of that architecture. From nothing but Debian: its compiler and its library for arm64 in a root of their own
# (debootstrap), its kernel for arm64, and QEMU in software. As root, which alone may have such a root; 3 GB of target/.
#
# AARCH64_SUITE=NAME    release of Debian whose compiler is new enough (sid)
# AARCH64_SECONDS=N     the machine is ended after this time (1200)
# APT_OPTIONS='-o A=B'  for every call of apt inside, where a mirror needs some
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

SUITE=${AARCH64_SUITE:-sid}
SECONDS_MAX=${AARCH64_SECONDS:-1200}
APT_OPTIONS=${APT_OPTIONS:-}
target=aarch64-unknown-linux-gnu
work="$ROOT/target/aarch64"
root="$work/root" results="$work/results" machine="$work/machine"
# What the tests of the launcher name when they start it, because it is where it was built.
place="/results/$target/debug"

[ "$(id -u)" -eq 0 ] || die 'only root makes a root of its own' 'run it as root'
need_tools
need debootstrap debootstrap 'it unpacks the release with the compiler'
need qemu-system-aarch64 qemu-system-arm 'it is the machine of the other architecture'
need cpio cpio 'it packs the initial file system'

# inside COMMAND...: in that root, with nothing of this machine but the sources, the packages of crates and the results. What is
# mounted for it ends with it.
inside() {
    # shellcheck disable=SC2016
    unshare --mount --propagation private sh -c '
        root=$1
        mount --bind "$2" "$root/sources" && mount -o remount,bind,ro "$root/sources" && mount --bind "$3" "$root/crates" &&
            mount --bind "$4" "$root/results" && mount -t proc proc "$root/proc" && mount --bind /dev "$root/dev" || exit 1
        shift 4
        exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
            DEBIAN_FRONTEND=noninteractive CARGO_HOME=/crates CARGO_TARGET_DIR=/results CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 \
            CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc "$@"' \
        sh "$root" "$ROOT" "${CARGO_HOME:-$HOME/.cargo}" "$results" "$@"
}

mkdir -p "$results"
if [ ! -e "$work/ready" ]; then
    step "unpacking the compiler of Debian $SUITE"
    rm -rf "$root"
    debootstrap --variant=minbase --include=ca-certificates "$SUITE" "$root" >"$work/debootstrap.log" 2>&1 ||
        die 'Debian could not be unpacked' "read $work/debootstrap.log"
    mkdir -p "$root/sources" "$root/crates" "$root/results" "$root/packages"
    # shellcheck disable=SC2016
    inside sh -euc '
        dpkg --add-architecture arm64
        apt-get $1 update -qq
        apt-get $1 install -y -qq --no-install-recommends rustc cargo libstd-rust-dev:arm64 gcc libc6-dev gcc-aarch64-linux-gnu \
            libc6-dev-arm64-cross
        cd /packages
        depends() { apt-cache depends "$1:arm64" | sed -n "s/.*Depends: \(linux-$2-[^ :]*\).*/\1/p" | head -n 1; }
        image=$(depends linux-image-cloud-arm64 image)
        # The kernel itself is a package of its own in later releases.
        binary=$(depends "$image" binary)
        apt-get $1 download -qq "${binary:-$image}:arm64" busybox-static:arm64
        for package in *.deb; do dpkg-deb -x "$package" unpacked; done' \
        sh "$APT_OPTIONS" >"$work/install.log" 2>&1 || die 'the compiler could not be installed' "read $work/install.log"
    touch "$work/ready"
fi
kernel=$(find "$root/packages/unpacked" -name 'vmlinu?-*' -o -name 'vmlinu?' | head -n 1)
busybox=$(find "$root/packages/unpacked" -path '*/bin/busybox' | head -n 1)
[ -n "$kernel" ] && [ -n "$busybox" ] || die 'Debian has no kernel or no busybox for arm64' "look into $root/packages"

step "compiling for $target"
# Here, where there is a network and a registry.
(cd "$ROOT" && cargo fetch --locked --quiet)
# Linked statically: the machine has no libraries. What the linker says about names of hosts concerns nothing of ours.
flags='-D warnings -A linker-messages -C target-feature=+crt-static'
built=$(inside env CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="$flags" CARGO_TERM_COLOR=never sh -euc 'cd /sources && exec cargo "$@"' \
    sh test --no-run --offline --locked --target "$target" -p agentos-launcher -p agentos-prober 2>&1) ||
    die 'the launcher does not compile' "$built"
unit_tests=$(echo "$built" | sed -n 's|.*Executable unittests src/lib.rs (\(/results/.*/agentos_launcher-[0-9a-f]*\)).*|\1|p')
tests=$(echo "$built" | sed -n 's|.*Executable tests/it/main.rs (\(/results/[^)]*\)).*|\1|p' | head -n 1)
[ -n "$unit_tests" ] && [ -n "$tests" ] || die 'the tests of the launcher were not found' "$built"

step 'making the machine'
tree="$machine/tree"
rm -rf "$machine"
mkdir -p "$tree"/{dev,proc,sys,tmp,etc,run,root,new,srv,home,opt,var,mnt,usr/bin,usr/lib} "$tree$place"
for name in bin sbin usr/sbin; do ln -s /usr/bin "$tree/$name"; done
for name in lib lib64; do ln -s /usr/lib "$tree/$name"; done
cp "$busybox" "$tree/usr/bin/busybox"
cp "$results${unit_tests#/results}" "$tree/usr/bin/unit_tests"
cp "$results${tests#/results}" "$tree/usr/bin/launcher_tests"
cp "$results/$target/debug/agent-os-launch" "$tree$place/"
printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$tree/etc/passwd"
cat >"$tree/init" <<'INIT'
#!/bin/busybox sh
# Sandboxes leave their root, which the initial file system does not let them.
if [ "$1" != again ]; then
    /bin/busybox mount -t tmpfs -o size=600m tmpfs /new
    for name in bin sbin lib lib64 usr etc results init root; do /bin/busybox cp -a "/$name" /new/; done
    cd /new && /bin/busybox mkdir -p dev proc sys tmp run srv home opt var mnt && cd /
    /bin/busybox mount -t devtmpfs devtmpfs /new/dev
    exec /bin/busybox switch_root -c /dev/console /new /init again
fi
/bin/busybox --install -s /usr/bin
export PATH=/usr/bin HOME=/root TMPDIR=/tmp RUST_BACKTRACE=0 AGENTOS_WITHOUT_BWRAP=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
echo "VM kernel $(uname -r) $(uname -m)"
part() {
    local name=$1
    shift
    echo "VM begin $name"
    if "$@"; then echo "VM passed $name"; fi
}
part filter unit_tests --test-threads 2
# Sandboxes of the real launcher; what needs Python or a library stays out.
part sandboxes launcher_tests --test-threads 2 groups:: layers:: orders:: start:: inside::a_shell_runs inside::proc_shows \
    inside::standard_streams inside::the_tree_is inside::what_the_program_has ends::killing ends::orphans ends::termination
echo 'VM end'
poweroff -f
INIT
chmod 755 "$tree/init"
(cd "$tree" && find . -print0 | cpio --null --create --format newc --quiet | gzip -1) >"$machine/initramfs.gz"

step "booting $(basename "$(dirname "$kernel")") (at most $SECONDS_MAX s)"
timeout "$SECONDS_MAX" qemu-system-aarch64 -machine virt -cpu max -accel tcg -smp 2 -m 1536 -nodefaults -nographic -no-reboot -nic none \
    -kernel "$kernel" -initrd "$machine/initramfs.gz" -append 'console=ttyAMA0 quiet loglevel=3 panic=-1' -serial stdio \
    </dev/null 2>"$machine/qemu.log" | sed -u 's|\r||' | tee "$machine/serial.log" | grep --line-buffered -E '^VM |result:' || true
for part in filter sandboxes; do
    grep -qx "VM passed $part" "$machine/serial.log" || die "$part: not passed on aarch64" "read $machine/serial.log"
done
grep -qx 'VM end' "$machine/serial.log" || die 'the machine did not get to its end' "read $machine/serial.log"
printf '%s: %s tests passed on aarch64\n' "$(inside rustc --version)" "$(grep -c '^test .* ok$' "$machine/serial.log")"
