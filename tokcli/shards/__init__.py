"""Work that is cut into shards, done by any number of workers anywhere, and whole at the end whoever was killed.

    OUT/plan.json                  made once, exclusively: what is done, to which items, cut into how many shards
    OUT/shard-00017.safetensors    the output of shard 17, a pure function of (plan, 17)
    OUT/shard-00017.json           written last: its presence means done
    OUT/claims/00017               a lease, which saves that two do the same; nothing depends on it

Nothing here knows what the work is. A worker that comes back from the dead writes the same bytes once more.
"""
