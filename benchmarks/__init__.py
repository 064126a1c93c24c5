"""Timings: `python benchmarks/run.py` measures, `python benchmarks/check.py` compares.

A part is a module of this folder with `measure`, see `part.Part`; its outcome goes to
results/benchmarks/<part>.json. `python benchmarks/run.py --help` lists them.
"""
