"""How fast pictell is: against the textbook in the same run, and against the machine's limit.

`pictell bench` measures; the textbook's code lies in `benchmarks/textbook`. A measurement is a
`Case` (case.py) that can run in several ways, first of all `textbook` and `pictell`, which must
give the same result.
"""
