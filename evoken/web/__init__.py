"""``evoken web``: a page to work in.

The page starts the ordinary commands, each in a process of its own, and shows what is in their run
folders: it has no logic of its own about words or edits.
"""
