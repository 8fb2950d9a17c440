#!/bin/bash
# A SLURM cluster of two virtual nodes on this machine, for tests: slurm_cluster.sh up|down FOLDER. Needs root, slurmctld
# and slurmd; no authentication, so never outside of a loopback.
set -eu
L=$2; H=$(hostname -s); P=${SLURM_TEST_PORT:-17817}; export SLURM_CONF=$L/slurm.conf
case $1 in
up)
  mkdir -p "$L/ctl" "$L/log"
  grep -q "n1 n2" /etc/hosts || echo "127.0.0.1 n1 n2" >> /etc/hosts
  cat > "$SLURM_CONF" <<C
ClusterName=lab
SlurmctldHost=$H(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
SlurmctldPort=$P
SlurmdPort=$((P + 1))
StateSaveLocation=$L/ctl
SlurmdSpoolDir=$L/d-%n
SlurmctldPidFile=$L/slurmctld.pid
SlurmdPidFile=$L/slurmd-%n.pid
SlurmctldLogFile=$L/log/slurmctld.log
SlurmdLogFile=$L/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
KillWait=30
MinJobAge=600
SlurmdTimeout=10
JobRequeue=1
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=$H NodeAddr=127.0.0.1 Port=$((P + 1)) CPUs=4 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname=$H NodeAddr=127.0.0.1 Port=$((P + 2)) CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=lab Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
C
  slurmctld; slurmd -N n1; slurmd -N n2
  for _ in $(seq 100); do [ "$(sinfo -h -o %T 2>/dev/null | sort -u)" = idle ] && exit 0; sleep 0.1; done
  exit 1 ;;
down) for d in slurmd-n1 slurmd-n2 slurmctld; do [ -f "$L/$d.pid" ] && kill "$(cat "$L/$d.pid")" || true; done ;;
esac
