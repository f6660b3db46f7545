# frozen_string_literal: true

require "etc"

module Kino
  # How many CPUs this process may use: by its affinity, and by the quota of its container.
  #
  # @return [Integer]
  def self.available_parallelism
    quota, period = File.read("/sys/fs/cgroup/cpu.max").split.map(&:to_i)
    quota.positive? ? Etc.nprocessors.clamp(1, (quota.to_f / period).ceil) : Etc.nprocessors
  rescue SystemCallError
    Etc.nprocessors
  end
end
