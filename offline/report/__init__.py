"""Reports: what a run was, what it found and how far to trust it, on one page that needs no network.

A page is made of sections; each kind of run has a file that reads its folder and says which sections it has:
:mod:`~offline.report.evaluation`, :mod:`~offline.report.training_run` and :mod:`~offline.report.online_run`.
"""
