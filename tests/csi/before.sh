# Daemons die here more often than anywhere: the next one is started at once, and its socket stays.
for unit in 'service Service RestartSec=0\nRestartSteps=0' 'csi.socket Socket TriggerLimitIntervalSec=0'; do
    set -- $unit
    name=volumed.$1; [ $1 = service ] || name=volumed-$1
    mkdir -p /etc/systemd/system/$name.d
    printf "[$2]\n$3\n" > /etc/systemd/system/$name.d/soon.conf
done
mkdir -p /var/lib/kubelet
