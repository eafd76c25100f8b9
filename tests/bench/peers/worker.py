"""The peers' side of the benchmarks: one JSON object a line on standard input and output (see ../worker.lua)."""
import json
import os
import sys
import time

clock = time.process_time if "BENCH_PROCESSOR_TIME" in os.environ else time.perf_counter
THREADS = int(os.environ.get("BENCH_THREADS", "1"))


def status_bytes(field):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


def serve(version, kinds, finish=lambda result: None):
    """kinds: name -> function of a workload that gives a step; finish waits for a step's result."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not get between the answers

    def answer(reply):
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    prepared, resting = [], status_bytes("VmRSS")

    def prepare(request):
        kind = kinds.get(request["workload"]["kind"])
        if kind is None:
            return {"missing": "no such workload here"}
        prepared.append(kind(request["workload"]))
        return {"slot": len(prepared)}

    def run(request):
        step, count, result = prepared[request["slot"] - 1], request["count"], None
        finish(step())  # finds its data where the others' turns left them, in memory, and is not counted
        start = clock()
        for _ in range(count):
            result = step()
        finish(result)
        return {"seconds": (clock() - start) / count}

    def forget(_):
        prepared.clear()
        return {}

    def memory(_):
        return {"resting": resting, "peak": status_bytes("VmHWM")}

    commands = {"prepare": prepare, "run": run, "forget": forget, "memory": memory}
    answer({"process": os.getpid(), "version": version})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(commands[request["do"]](request))
        except Exception as problem:  # one workload that fails does not end the run
            answer({"missing": f"{type(problem).__name__}: {problem}"[:300]})
