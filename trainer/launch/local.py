"""`launch.kind: local`: processes of this machine, watched by the command itself."""

from trainer.launch import foreground
from trainer.launch.job import Target

TARGET = Target(
    template="local.sh",
    syntax="shell",
    no_use={"hosts": "it is this machine", "exclude": "it is this machine", "account": "nothing is paid for"},
    program="bash",
    hand_over=foreground.hand_over,
)
