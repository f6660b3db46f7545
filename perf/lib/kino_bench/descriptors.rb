# frozen_string_literal: true

module KinoBench
  # The descriptors a process may have: whoever holds thousands of connections raises its soft limit
  # to the hard one, which only root can raise.
  module Descriptors
    # What a process has open beside connections.
    SPARE = 100

    def self.most = Process.getrlimit(:NOFILE).last

    # Complains in the name of an option.
    def self.check(option, connections)
      return if connections + SPARE <= most

      raise Failure, "#{option} is more than #{most - SPARE}, which is what the hard limit of " \
                     "#{most} descriptors leaves (ulimit -Hn)"
    end

    def self.raise_limit = Process.setrlimit(:NOFILE, most, most)
  end
end
