"""assay-runner: what did this AI agent really do on the machine, and did that change?"""

__version__ = "0.1.0"
