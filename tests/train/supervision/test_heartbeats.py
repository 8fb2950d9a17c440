"""What a rank knows of the others without a collective."""

import os
import socket
import subprocess
import sys

from train.supervision.heartbeats import Peer
from train.supervision.launcher_watch import Process


def test_a_rank_of_this_host_that_ends_is_gone():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process.of(child.pid)
    assert process is not None
    peer = Peer.seen_from_here(1, socket.gethostname(), process)
    assert not peer.gone
    child.kill()
    child.communicate()
    assert peer.gone
    assert str(peer) == f"rank 1 ({socket.gethostname()}, process {child.pid})"


def test_a_rank_in_another_container_of_this_host_is_not_taken_for_dead():
    """Its process id, if there is such a process here at all, is another's: started at another time."""
    peer = Peer.seen_from_here(1, socket.gethostname(), Process(os.getpid(), start=1))
    assert not peer.gone
    assert "another container" in str(peer)
    assert not Peer.seen_from_here(2, "elsewhere", Process(os.getpid(), start=1)).gone
