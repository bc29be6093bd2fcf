"""User studies: blinded pages made from a bench, people's answers, and the table of their choices.

`design` is a study as data, `make` fills it from a bench. `arrangement` says who sees what, `site` asks, `store` keeps the
answers. `results` reads them, `intervals`, `strengths` and `checks` are the statistics, and `table` prints them.
"""
