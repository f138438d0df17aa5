import reframe as rfm
import reframe.utility.sanity as sn


@rfm.simple_test
class Greeting(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["*"]
    executable = "echo"
    executable_opts = ["hi"]
    num_tasks = 2
    time_limit = "3m"

    @sanity_function
    def says_it_twice(self):
        return sn.assert_eq(sn.count(sn.findall("hi", self.stdout)), 2)
