#!/bin/busybox sh
# The first process of an emulated machine: runs the interception tests and then weir as the DaemonSet does, says on the
# console how they ended, and ends the machine.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t cgroup2 none /sys/fs/cgroup
# All is in memory already; and /tmp may be where the tests look for files of the folder that they were built in.
for module in /modules/*; do
    insmod "$module" || echo "== missing $module"
done
ip link set lo up
ulimit -n 20000
echo "== kernel $(uname -r)"

# The tests that are wanted, by the kernel's command line: with commas, whose names contain any of these words.
wanted=$(sed -n 's/.*weir\.tests=\([^ ]*\).*/\1/p' /proc/cmdline | tr , ' ')
/tests --test-threads=1 $wanted
echo "== tests $?"

sh /deployed.sh
echo "== deployed $?"

sync
reboot -f
