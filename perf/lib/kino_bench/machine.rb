# frozen_string_literal: true

require "etc"
require "open3"

module KinoBench
  # What a figure was measured on and with.
  module Machine
    def self.description
      model = File.read("/proc/cpuinfo")[/^model name\s*: (.+)$/, 1] || "unknown CPU"
      uname = Etc.uname
      "#{model}, #{Etc.nprocessors} cores, #{uname[:sysname]} #{uname[:release]}"
    end

    def self.revision
      revision, status = Open3.capture2("git", "-C", ROOT, "describe", "--always", "--dirty",
                                        err: File::NULL)
      status.success? ? revision.strip : "unknown"
    rescue Errno::ENOENT
      "unknown"
    end
  end
end
