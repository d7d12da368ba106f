"""What router, worker, node agent and command line share. Knows none of them."""

import os

# gRPC hooks into `fork`, so that a child may go on with its calls. Our children begin other programs, and libuv forks
# for that: the hook starts gRPC's threads in the child, and one of some 200 died of it (SIGSEGV, gRPC 1.85) before its
# program began. gRPC reads the variable when it is first imported; the entry of each process imports `common` before.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
