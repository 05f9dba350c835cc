# A plain container: mounts of its own, a root of its own, and nothing else. Its arguments are the
# directory for its root, the one with the programs, and what the attacks are told.
set -e
root=$1
mount -t tmpfs -o size=400m,mode=0755 plain "$root"
cd "$root"
mkdir covered dev etc proc shared sys tmp usr work
for name in bin lib lib64 sbin; do
    [ ! -e "/$name" ] || ln -s "usr/$name" "$name"
done
mount --bind /usr usr
mount -o remount,bind,ro usr
for name in dev proc sys; do
    mount --rbind "/$name" "$name"
done
mount -t tmpfs -o size=200m tmp tmp
mount -t tmpfs covered covered
mount --bind shared shared
mount --make-shared shared
cp "$2"/*.py work
cp /usr/bin/sleep "$root/runtime"
# What its runtime forgot to close, and where the one around it is.
exec 9</
export AROUND=$$
unshare --mount --propagation unchanged chroot . /usr/bin/python3 -B /work/attacks.py "$3"
