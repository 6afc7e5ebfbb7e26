"""The loader's throughput, stage by stage, beside other ways of loading."""
