#!/usr/bin/env bash
# What this machine's kernel may not have, on one that has it: cgroup version 2 and AppArmor, attacked in a virtual machine.
#
# QEMU in software (no KVM, no rights, no network inside) boots Debian's cloud kernel with an initial file system of busybox,
# our static programs and the test programs. What it prints on its serial line is read here, and judged here. As root,
# Debian's packages are installed when they are missing; the kernel is only unpacked.
#
# REPORT=FILE         where the report goes (docs/quality/vm-DATE.md)
# VM_SECONDS=N        the machine is ended after this time (900)
# VM_ACCELERATOR=kvm  where there is a /dev/kvm that works (tcg)
# ONLY='groups'       parts that run: groups, product, armor (all)
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

today=$(date -u +%F)
REPORT=${REPORT:-"$ROOT/docs/quality/vm-$today.md"}
VM_SECONDS=${VM_SECONDS:-900}
VM_ACCELERATOR=${VM_ACCELERATOR:-tcg}
ONLY=${ONLY:-groups product armor}
vm="$ROOT/target/vm"
root="$vm/root"
start="$vm/start"

need_tools
need qemu-system-x86_64 qemu-system-x86 'it is the virtual machine'
need busybox busybox-static 'it is the user space of the virtual machine'
need apparmor_parser apparmor 'it compiles the profiles'
need mkfs.ext4 e2fsprogs 'the virtual machine has a disk'
need setquota quota 'it sets project quotas'
need cpio cpio 'it packs the initial file system'
need openssl openssl 'the server in the machine has a certificate'
[ "$(uname -m)" = x86_64 ] || die 'the virtual machine is of x86_64' 'run it on such a machine'

mkdir -p "$vm"
kernel_package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
[ -n "$kernel_package" ] || die 'Debian offers no cloud kernel here' 'apt-get update'
if [ ! -d "$vm/$kernel_package" ]; then
    step "unpacking $kernel_package"
    (cd "$vm" && apt-get download -qq "$kernel_package" 2>/dev/null && dpkg-deb -x "$kernel_package"_*.deb "$kernel_package.new")
    rm -f "$vm/$kernel_package"_*.deb
    mv "$vm/$kernel_package.new" "$vm/$kernel_package"
fi
kernel=$(echo "$vm/$kernel_package"/boot/vmlinuz-*)
modules=$(echo "$vm/$kernel_package"/lib/modules/*/kernel)

step 'building the programs'
cd "$ROOT"
# First the launcher that leaves walls out, because it is built under the name of the ordinary one.
scripts/build-for-tests.sh open-launcher
cargo build --locked --quiet -p agentos-launcher -p agentos-egress -p agent-os -p agentos-agent-monitor -p agentos-prober --bins
# The path of the one test program of a package.
test_program() {
    cargo test --locked --quiet -p "$1" --test "$2" --no-run --message-format json |
        sed -n "s/.*\"executable\":\"\([^\"]*$2-[^\"]*\)\".*/\1/p" | tail -n 1
}
limits_program=$(test_program agentos-limits limits_it)

step 'making the disk'
rm -rf "$root" "$start"
mkdir -p "$root"/{dev,proc,sys,tmp,mnt,disk,etc/apparmor,root,run,usr/bin,usr/sbin,usr/lib,usr/lib64}
for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
busybox_path=$(command -v busybox)
if ldd "$busybox_path" >/dev/null 2>&1; then die 'busybox is not static' 'apt-get install busybox-static'; fi
cp "$busybox_path" "$root/bin/busybox"
cp "$ROOT/scripts/vm/init" "$ROOT"/scripts/vm/parts-* "$root/"
touch "$root/etc/apparmor/parser.conf"
cp "$limits_program" "$root/bin/limits_it"
# What busybox lacks, with the libraries that it names.
with_libraries() {
    local program
    program=$(readlink -f "$(command -v "$1")")
    install -D "$program" "$root/usr/bin/${1##*/}"
    strip "$root/usr/bin/${1##*/}" 2>/dev/null || true
    { ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true; } | while read -r library; do install -D "$library" "$root$library"; done
}
for program in agent-os agent-os-launch agent-os-egress agent-os-monitor agent-os-intruder; do with_libraries "$ROOT/target/debug/$program"; done
install -D -s target/debug/agent-os-launch-open "$root/srv/open/agent-os-launch"
with_libraries apparmor_parser
with_libraries perl
with_libraries setpriv
for program in setquota chattr mkfs.ext4 mount losetup; do with_libraries "$program"; done
cp -r /etc/apparmor.d "$root/etc/"
cp -r "$ROOT/deploy/apparmor" "$root/profiles"
cp -r "$ROOT/agents" "$root/agents"
mkdir -p "$root/srv/tls"
# Its own and nobody's authority, as a server's certificate is.
printf '[req]\ndistinguished_name=dn\nx509_extensions=own\n[dn]\n[own]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n' >"$vm/tls.cnf"
openssl req -x509 -config "$vm/tls.cnf" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=agent-os \
    -keyout "$root/srv/tls/tls.key" -out "$root/srv/tls/tls.pem" 2>/dev/null
# A root that sandboxes can leave: the initial file system is none, so it only goes on to the disk.
truncate -s 0 "$vm/disk" && truncate -s 768M "$vm/disk" && mkfs.ext4 -q -d "$root" "$vm/disk"
mkdir -p "$start"/{bin,dev,modules,disk}
cp "$busybox_path" "$start/bin/busybox"
for module in virtio/virtio_ring virtio/virtio virtio/virtio_pci_legacy_dev virtio/virtio_pci_modern_dev virtio/virtio_pci block/virtio_blk; do
    cp "$modules/drivers/$module.ko" "$start/modules/"
    basename "$module.ko" >>"$start/modules/order"
done
for module in fs/quota/quota_tree fs/quota/quota_v2 drivers/block/loop; do
    cp "$modules/$module.ko" "$start/modules/"
    basename "$module.ko" >>"$start/modules/order"
done
truncate -s 0 "$vm/data" && truncate -s 64M "$vm/data" && mkfs.ext4 -q -O quota,project "$vm/data"
cp "$ROOT/scripts/vm/start" "$start/init"
(cd "$start" && find . -print0 | cpio --null --create --format newc --quiet | gzip -1) >"$vm/initramfs.gz"

step "booting $(basename "$kernel") (at most $VM_SECONDS s)"
begin=$SECONDS
timeout "$VM_SECONDS" qemu-system-x86_64 -accel "$VM_ACCELERATOR" -smp 2 -m 1536 -nodefaults -nographic -no-reboot -nic none \
    -kernel "$kernel" -initrd "$vm/initramfs.gz" -drive "file=$vm/disk,if=virtio,format=raw,cache=unsafe" \
    -drive "file=$vm/data,if=virtio,format=raw,cache=unsafe" \
    -append "console=ttyS0 quiet loglevel=3 panic=-1 lsm=landlock,yama,apparmor,bpf vm_parts=${ONLY// /,}" \
    -serial stdio </dev/null 2>"$vm/qemu.log" | sed -u 's|\r||' | tee "$vm/serial.log" | grep --line-buffered '^VM ' >&2 || true
seconds=$((SECONDS - begin))

# Every part that was begun has to be told as passed, and the end has to be reached.
parts=$(sed -n 's/^VM begin //p' "$vm/serial.log")
failed=()
for part in $parts; do
    grep -qx "VM passed $part" "$vm/serial.log" || failed+=("$part")
done
grep -qx 'VM end' "$vm/serial.log" || failed+=('end: the machine did not get to its end')
[ -n "$parts" ] || failed+=('begin: nothing was begun')
verdict='All parts passed.'
if [ "${#failed[@]}" -gt 0 ]; then verdict="Failed: ${failed[*]}."; fi

{
    printf '# Tests in a virtual machine, %s\n\n' "$today"
    printf '```sh\nmake test-vm'
    if [ "$ONLY" != 'groups product armor' ]; then printf " ONLY='%s'" "$ONLY"; fi
    printf '\n```\n\n'
    printf 'QEMU (%s), %s. %s The machine ran for %s s.\n\n' "$VM_ACCELERATOR" "$(basename "$kernel")" "$verdict" "$seconds"
    printf 'What it printed, without the backtraces:\n\n```text\n'
    grep -E '^VM |^test |^left out|^test result' "$vm/serial.log" || true
    printf '```\n'
} >"$REPORT"
say "the report is in $REPORT, all output in $vm/serial.log"
if [ "${#failed[@]}" -gt 0 ]; then
    die "$verdict" "read $vm/serial.log"
fi
printf '\nall passed\n'
