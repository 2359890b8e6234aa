"""What is read from an answer: a number, the letter of a choice, a JSON value, a match of a pattern.

Nothing here compares; each module finds one kind of answer in a text, or says that there is none.
"""
