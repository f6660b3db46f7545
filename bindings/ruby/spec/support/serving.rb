# frozen_string_literal: true

require "open3"
require "rbconfig"
require "tempfile"

# Servers for examples: in this process, or as the command `kino`.
module Serving
  # Each way to serve an app.
  WAYS = %i[ractor threaded].product(%i[queue inline]).map { |mode, dispatch| { mode:, dispatch: } }

  # Starts a server for an app and shuts it down after the block.
  def serve(app, **options)
    server = Kino::Server.new(app, mode: :threaded, workers: 1, threads: 1, **options).start
    yield server
  ensure
    server&.shutdown
  end

  # What is written to the standard error of the process, by whichever Ractor, while the block runs.
  def errors_of
    saved = $stderr.dup
    Tempfile.create("errors") do |file|
      $stderr.reopen(file)
      yield
      $stderr.flush
      File.read(file.path)
    ensure
      $stderr.reopen(saved)
      saved.close
    end
  end

  # A process that runs exe/kino; killed when the block is over.
  class Command
    EXE = File.expand_path("../../exe/kino", __dir__)
    LIB = File.expand_path("../../lib", __dir__)
    SECONDS = 20

    attr_reader :pid

    def self.run(...)
      command = new(...)
      yield command
    ensure
      command&.kill
    end

    # rackup: the text of a rackup file.
    def initialize(*arguments, rackup: nil, environment: {})
      if rackup
        @rackup = Tempfile.create(["config", ".ru"]).tap { _1.write(rackup) }.tap(&:close)
        arguments << @rackup.path
      end
      @output, output = IO.pipe
      @errors, errors = IO.pipe
      @pid = Process.spawn(environment, RbConfig.ruby, "-I", LIB, EXE, *arguments,
                           in: File::NULL, out: output, err: errors)
      [output, errors].each(&:close)
      @reaper = Process.detach(@pid)
    end

    # The port it says it listens on.
    def port
      @port ||= line(@output, /^listening: http:.*:(\d+)$/).to_i
    end

    # The first group of the first line that matches, among those that come to be.
    def line(io, pattern)
      loop do
        raise "no line matches #{pattern.inspect}: #{@said}" unless io.wait_readable(SECONDS)

        text = io.gets or raise "no line matches #{pattern.inspect}: #{@said}#{@errors.read}"
        (@said ||= +"") << text
        return text[pattern, 1] if text.match?(pattern)
      end
    end

    def error_line(pattern) = line(@errors, pattern)

    def signal(name) = Process.kill(name, @pid)

    # The exit status, or nil when it is still there after so many seconds.
    def wait(seconds = SECONDS) = @reaper.join(seconds)&.value

    # What it printed, once it has ended.
    def output = @output.read
    def errors = @errors.read

    def kill
      Process.kill(:KILL, @pid) if @reaper.alive?
      @reaper.join
      [@output, @errors].each(&:close)
      File.unlink(@rackup) if @rackup
    end
  end
end

RSpec.shared_context "each way" do |way|
  let(:way) { way }

  def serve(app, **options, &) = super(app, **way, **options, &)
end
