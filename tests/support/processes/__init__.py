"""
Applications of several processes: forked, as web servers, queues of tasks and multiprocessing have them, and ended.

    application  one that installs when it is imported; told where and how by its environment
    web          the same as a WSGI application
    tasks        the same as tasks of Celery
    worker       a process that only delivers; a script
    children     children of its own, by os.fork() and multiprocessing; a script
    ends         one that commits and ends; a script
    served       starts them, and says what was seen of each process
"""
