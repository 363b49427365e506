"""
What the block C{config:} of each module may contain (spec/config.md, 7): one Struct for each module.

The Structs document their keys, one C{@ivar} for each; references are made from these.  All keys are optional unless
they are said to be required.  Where a default differs from the reference's, that is said too.
"""
