# What is in /etc, and where the engines keep what is theirs, before a guest's first service: they begin when they are asked.
[ -e /dev/ubdb ] && { blkid /dev/ubdb > /dev/null || mkfs.ext4 -q /dev/ubdb; }
mkdir -p /engines; mount /dev/ubdb /engines
mkdir -p /engines/docker /engines/containers /var/lib/docker /var/lib/containers /etc/docker /etc/containers /etc/volumed /etc/systemd/system/docker.service.d
mount --bind /engines/docker /var/lib/docker; mount --bind /engines/containers /var/lib/containers
cat > /etc/docker/daemon.json <<'END'
{ "bridge": "none", "iptables": false, "ip6tables": false, "storage-driver": "overlay2", "exec-opts": [ "native.cgroupdriver=cgroupfs" ], "log-level": "warn" }
END
# No network is waited for, and no time between two deaths.
printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=0\n' > /etc/systemd/system/docker.service.d/soon.conf
cat > /etc/containers/containers.conf <<'END'
[containers]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
# Its own 5 s are little on a machine that does much else. volumed gives up after 4.5 s all the same, where it does.
volume_plugin_timeout = 60
[engine.volume_plugins]
volumed = "/run/volumed/podman.sock"
END
printf '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' > /etc/containers/storage.conf
systemctl -q enable volumed.service docker.socket podman.socket
