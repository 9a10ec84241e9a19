"""
What an endpoint gets: the body, the headers and the signature, in one of several dialects.

    standard     Standard Webhooks 1.0
    openfront    as Openfront sends them
    github       in GitHub's habit
    cloudevents  CloudEvents 1.0.2, structured and binary
    known        those of an installation, by name

    instants     how they write time
    hub          signatures keyed with a secret's text

What a dialect is, for those of an application too, says `sqla_webhooks.dialect`.
A body is made once for each event, the headers anew for each attempt.
"""
