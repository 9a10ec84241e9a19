"""
From a claimed delivery to the record of its attempt, one module for each step.

    dialects   the body, the headers and the signature an endpoint gets, as its receiver knows them
    sign       the signature of Standard Webhooks, and `verify()` for receivers
    request    all that is sent in one attempt
    egress     where requests may go
    adapter    the sockets that are opened there, and the answers that are read
    send       one POST
    senders    many at a time, in threads; or one by one, in the caller's
    decide     what an outcome means for the delivery
    announce   what was recorded, told
"""
