"""A provisioner and a kubelet in one, over the real socket: `conformance.py [WORD…]` runs the checks that have a word in their names."""
import json
import os
import sys

import node
import suite
from client import RPCS, Client

import sanity  # noqa: F401
import rules  # noqa: F401
import lives  # noqa: F401
import deaths  # noqa: F401


@suite.check("nothing is left, and every RPC was asked", "end")
def _(ask):
    ask.same(len(ask.ask("ListVolumes").entries), 0, "volumes")
    ask.same(len(ask.ask("ListSnapshots").entries), 0, "snapshots")
    ask.same(node.mounted(), [], "mounts")
    ask.same(len(json.loads(node.volctl("volume", "list", "-o", "json"))["volumes"]), 0, "volumes of the machine")
    if len(sys.argv) == 1:
        with open("/run/volumed/csi-places.json") as noted:
            ask.so("kubelet" not in noted.read(), "places are noted that are none")
        ask.same(sorted(set(RPCS) - set(Client.asked)), [], "RPCs that were not asked")


os.makedirs(node.KUBELET, exist_ok=True)
sys.exit(suite.main())
