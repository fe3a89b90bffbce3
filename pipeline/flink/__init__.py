"""What the job needs of a Flink that it is handed to.

`rest` asks Flink about its jobs, `runner_faults` whether anybody answers before a job is handed over, `refusals` ends a
job that is refused something, and `worker_pool` starts Beam's Python workers beside a task manager. A Flink on this
machine is `pipeline.local`'s.
"""
