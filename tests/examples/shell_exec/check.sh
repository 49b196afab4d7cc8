#!/bin/sh
# Do the agents say what they should? Needs nothing but voisnap-mock.
set -eu

says() { # says AGENT QUESTION ANSWER
    voisnap-mock chat "$1" --say "$2" | grep -F "$3" || { echo "$1 does not answer '$2' with '$3'" >&2; exit 1; }
}

says agt_support "I want my money back" "What is the order number?"
says agt_support "blah" "Sorry, could you repeat that?"
