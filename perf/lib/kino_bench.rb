# frozen_string_literal: true

# What perf/kino-bench and perf/soak share.
module KinoBench
  ROOT = File.expand_path("../..", __dir__)

  # Something the user can mend; its message is one line, shown without a backtrace.
  class Failure < StandardError; end
end

require_relative "kino_bench/descriptors"
require_relative "kino_bench/idle_connections"
require_relative "kino_bench/process_tree"
require_relative "kino_bench/rubies"
require_relative "kino_bench/server"
require_relative "kino_bench/server_table"
require_relative "kino_bench/running_server"
require_relative "kino_bench/wrk"
