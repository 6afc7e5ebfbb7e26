"""What only a GPU can show, in one command: a file per check, behind the interface of base.py."""
