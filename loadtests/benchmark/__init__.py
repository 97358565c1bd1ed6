"""The benchmark: what the design buys, measured in one run on one machine, over HTTP and inside.

``python -m loadtests.benchmark`` (or ``make benchmark``). Speeds depend on the machine, so what is promised are ratios:
each row against another one that was measured in turns with it. The way through the code:

``command``      options, the order of things, the exit code
``http_rows``    routes in turns with an empty Flask route, through the processes of the Procfile
``durability``   what a disk costs: the lag behind a decision, ``appendfsync always``
``overload``     more than the machine can do: open-loop arrivals, floods beside submissions
``decisions``    in this process, on stores of its own: server time and memory of decisions
``draining``     likewise: the drain and the settlement against simpler ways
``generators``   who sends: wrk where it is installed, otherwise ``sender``
``results``      figures, goals, checks; ``markdown``, ``charts`` and ``page`` show them
"""
