"""Other ways of loading the same clips, each as its authors advise: a file per way, behind one interface, base.py."""
