"""The tests, laid out like C{iii}.  C{make test} runs them all; C{make test ARGS=tests.test_run} runs what is named."""
