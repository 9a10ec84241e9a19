"""
Receivers at their worst, each with what is to come of a request to it.

    cage     a server that is such a receiver, and a healthy one afterwards
    slow     those that say nothing, or little at a time
    endless  those that say too much
    broken   those that hang up, at any moment
    odd      those that say what is no HTTP, or HTTP that nobody expects
    secure   those that spoil TLS
    weighed  a process that sends to them, and says how much memory it took; a script
"""
