"""Models on a Ray cluster: the same job on as many machines as there are.

`core` is a `LocalCore` like any other, so it runs in the process of `HostedEngine`, and Ray is imported there alone.
It keeps actors busy, each of which (`actor`) holds the core of a real engine; `crew` knows what each actor holds,
`cluster` how to reach a cluster and whether what is asked for fits a node, `shipping` brings a model's folder to the
nodes, `status` tells what there is.

Importing this package imports no Ray.
"""
