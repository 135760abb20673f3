"""`python -m trainer` is the `shardtune` command."""

from trainer.cli import main

if __name__ == "__main__":
    main()
