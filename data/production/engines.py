"""Where the work of a run is done: this machine's processes, or a Ray cluster. Both run shard_worker.py's ShardWorker
on the same shards, which leaves everything in files; so their output is the same, byte for byte.

    engine = LocalEngine(num_workers=8)           # or RayEngine("auto")
    for done in engine.run(groups, jobs, store):  # a Done for every link of every shard, as they come
        ...

LocalEngine: one group of links after the other (links that need the same kind of worker), each on its own processes:
one for each `gpus` share of the GPUs, else as many as `cpus` of each allow. A process that dies is replaced, and the
record that it died on fails.
RayEngine: Ray Data, one row a shard; each group is an actor pool that Ray scales between 1 and what the cluster has,
the shards stream through all groups at once. The output folder must be a path that all machines see.
"""
