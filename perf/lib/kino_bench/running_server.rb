# frozen_string_literal: true

require "net/http"
require "socket"

module KinoBench
  # A server as a process in a group of its own: asked until it answers, stopped and reaped.
  class RunningServer
    START_SECONDS = 30
    STOP_SECONDS = 10

    Answer = Data.define(:status, :type, :body)

    attr_reader :name, :pid, :port

    # cores: a list for taskset, or nil.
    def initialize(server, directory, cores: nil)
      @name = server.name
      @port = Addrinfo.tcp("127.0.0.1", 0).bind { _1.local_address.ip_port }
      @log = File.join(directory, "log")
      command = server.command(@port, directory)
      command = ["taskset", "-c", cores, *command] if cores
      program, *arguments = command
      @pid = Process.spawn(server.environment, [program, program], *arguments,
                           pgroup: true, rlimit_nofile: Descriptors.most,
                           in: File::NULL, out: @log, err: %i[child out])
      @reaper = Process.detach(@pid)
    rescue Errno::ENOENT, Errno::EACCES => e
      raise Failure, "#{name} does not start: #{e.message}"
    end

    def tree = @tree ||= ProcessTree.new(@pid)

    def url(path) = "http://127.0.0.1:#{@port}#{path}"

    def alive? = @reaper.alive?

    def get(path)
      response = Net::HTTP.start("127.0.0.1", @port, read_timeout: START_SECONDS) { _1.get(path) }
      Answer.new(status: response.code.to_i, type: response.content_type, body: response.body)
    end

    # The first answer, however long the server takes to boot.
    def await(path)
      deadline = now + START_SECONDS
      begin
        get(path)
      rescue SystemCallError, EOFError, Timeout::Error => e
        raise Failure, "#{name} ended before it answered: #{last_words}" unless alive?

        if now > deadline
          raise Failure, "#{name} gave no answer in #{START_SECONDS} s: #{e.message}"
        end

        sleep 0.02
        retry
      end
    end

    def terminate
      Process.kill(:TERM, @pid) if alive?
    end

    # The exit status, or nil when the server is still there after so many seconds.
    def wait(seconds) = @reaper.join(seconds)&.value

    def stop
      terminate
      return if wait(STOP_SECONDS)

      Process.kill(:KILL, -@pid)
      @reaper.join
    end

    # What the server printed last, and how it ended if it did.
    def last_words
      lines = File.readlines(@log, chomp: true).reject(&:empty?).last(5)
      lines << @reaper.value.to_s.sub(/\Apid \d+ /, "") unless alive?
      lines.join(" | ")
    end

    private

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
