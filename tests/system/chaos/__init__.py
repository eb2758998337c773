"""Everything goes wrong at random while suppliers send and shops read, and every number is compared afterwards.

`make chaos`, or `python -m tests.system.chaos --faults 24`. `setting` starts the system; `faults` does the harm as
`plan` says; `proxy`, `broker` and `disk` are what it is done with; `feed` and `readers` are the outside world; `watch`
sees what is committed, `check` judges, and `report` tells.
"""
